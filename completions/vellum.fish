# fish completion for vellum and for its fuse-overlayfs face

set -l overlay_options lowerdir= upperdir= workdir= uidmapping= gidmapping= squash_to_root squash_to_uid= squash_to_gid= \
    xattr_permissions={0,1,2} redirect_dir={off,on,copy,follow,nofollow} metacopy={on,off} \
    whiteouts={auto,device,dotwh,xattr,deleted-tree} xino={off,auto,on} userxattr volatile fsync={0,1} timeout= writeback={0,1} passthrough={0,1,upper} handles={0,1} \
    noxattrs={0,1} noacl static_nlink ino32_t fast_ino={0,1} nfs_filehandles ro rw suid nosuid dev nodev exec noexec atime noatime \
    allow_other default_permissions context= fsname= subtype= threaded={0,1} io_uring={auto,1,0} splice={0,1} max_threads= max_write=

complete -c vellum -n __fish_use_subcommand -f -a overlay -d 'Mount layers as one tree'
complete -c vellum -n __fish_use_subcommand -f -a stats -d 'Show the counters of a mount'
complete -c vellum -n __fish_use_subcommand -f -a views -d 'Give every process tree its own version of a directory'
complete -c vellum -n __fish_use_subcommand -f -a image -d 'Make, look into and mount images of trees'
complete -c vellum -n __fish_use_subcommand -f -a run -d 'Run a command in a view of its own'
complete -c vellum -n __fish_use_subcommand -f -s h -l help -d 'Print help'
complete -c vellum -n __fish_use_subcommand -f -s V -l version -d 'Print version'
complete -c vellum -n '__fish_seen_subcommand_from stats' -f -a '(__fish_complete_directories)'
complete -c vellum -n '__fish_seen_subcommand_from stats' -l json -d 'Print JSON'

complete -c vellum -n '__fish_seen_subcommand_from views' -f -a '(__fish_complete_directories)'
complete -c vellum -n '__fish_seen_subcommand_from views' -s o -x -d 'Options as of vellum overlay'
complete -c vellum -n '__fish_seen_subcommand_from views run' -l env-prefix -x -d 'Markers are NAME_LOWER, NAME_UPPER'
complete -c vellum -n '__fish_seen_subcommand_from views' -l strict -d 'Refuse processes that cannot be told'
complete -c vellum -n '__fish_seen_subcommand_from views' -l deny -x -d 'An executable that gets ENOTSUP'
complete -c vellum -n '__fish_seen_subcommand_from views' -l whiteouts -x -a 'auto device dotwh xattr deleted-tree'
complete -c vellum -n '__fish_seen_subcommand_from views' -l shared-depth -x -d 'Levels of directories that all views share'
complete -c vellum -n '__fish_seen_subcommand_from views' -l idle -x -d 'Milliseconds that an unused view stays'
complete -c vellum -n '__fish_seen_subcommand_from views' -s f -l foreground -d 'Stay in the foreground'
complete -c vellum -n '__fish_seen_subcommand_from views' -s d -l debug -d 'Log every request'
complete -c vellum -n '__fish_seen_subcommand_from views' -l list -d 'Show the live views'
complete -c vellum -n '__fish_seen_subcommand_from views' -l json -d 'Print JSON'
complete -c vellum -n '__fish_seen_subcommand_from run' -l lower -x -a '(__fish_complete_directories)' -d 'Lower directories'
complete -c vellum -n '__fish_seen_subcommand_from run' -l upper -x -a '(__fish_complete_directories)' -d 'Takes all changes'
complete -c vellum -n '__fish_seen_subcommand_from run' -l work -x -a '(__fish_complete_directories)' -d 'Work directory'
complete -c vellum -n '__fish_seen_subcommand_from run' -l at -x -a '(__fish_complete_directories)' -d 'Mount point'
complete -c vellum -n '__fish_seen_subcommand_from run' -l namespace -d 'In a mount namespace instead'
complete -c vellum -n '__fish_seen_subcommand_from run' -x -a '(__fish_complete_subcommand)'

complete -c vellum -n '__fish_seen_subcommand_from overlay' -f -a '(__fish_complete_directories)'
complete -c vellum -n '__fish_seen_subcommand_from overlay' -s f -d 'Stay in the foreground'
complete -c vellum -n '__fish_seen_subcommand_from overlay' -s d -l debug -d 'Log every request'
complete -c vellum -n '__fish_seen_subcommand_from overlay' -s o -x -a "(__fish_append , $overlay_options)" -d 'Mount options'

complete -c fuse-overlayfs -f -a '(__fish_complete_directories)'
complete -c fuse-overlayfs -s f -d 'Stay in the foreground'
complete -c fuse-overlayfs -s d -l debug -d 'Log every request'
complete -c fuse-overlayfs -s h -l help -d 'Print help'
complete -c fuse-overlayfs -s V -l version -d 'Print version'
complete -c fuse-overlayfs -s o -x -a "(__fish_append , $overlay_options)" -d 'Mount options'
