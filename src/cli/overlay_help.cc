#include "cli/overlay_help.h"

namespace vellum::cli {

std::string_view overlay_help() {
  return R"(usage: fuse-overlayfs [options] -o lowerdir=DIR[:DIR...][,upperdir=DIR,workdir=DIR][,option...] [source] mountpoint

Shows several directories as one. Changes go to upperdir; without it the mount is read-only.

    -h   --help            print help
    -V   --version         print version
    -d   --debug           log every request (implies -f)
    -f                     stay in the foreground
    -s                     serve with one thread
    -o opt[,opt...]        mount options; may be repeated; '\,' and '\:' escape

layers:
    lowerdir=A[:B...]      lower layers, the topmost first (at most 500); lowerdir+=C adds one below
    upperdir=DIR           where changes go
    workdir=DIR            an empty directory on upperdir's file system

owners:
    uidmapping=ID:MAPPED:LENGTH[:...]   ids on disk and what they are shown as
    gidmapping=ID:MAPPED:LENGTH[:...]
    squash_to_root         show every file as owned by root
    squash_to_uid=N        ... by this user
    squash_to_gid=N        ... by this group
    xattr_permissions=0|1|2  keep owner and mode in xattrs (1: security.*, 2: user.containers.override_stat)

the tree:
    redirect_dir=off|on|copy|follow|nofollow   renaming directories of lower layers (off)
    metacopy=on|off        chmod and chown of lower files copy no data (off)
    whiteouts=auto|device|dotwh|xattr|deleted-tree  how a removed name is written down (auto)
    xino=off|auto|on       unique, stable inode numbers over several devices (auto)
    userxattr              keep overlay xattrs under user.overlay.
    volatile               no fsync: fast, and not safe against a crash
    fsync=0|1              pass fsync on (1)
    timeout=SECONDS        how long the kernel may cache names and attributes (1e9)
    passthrough=0|1|upper  as root the kernel reads and writes layer files itself: none, all, upper ones only (1)
    writeback=0|1          writeback cache, where there is no passthrough (1)
    handles=0|1            OPEN and OPENDIR even where the kernel could do without, to debug (0)
    noxattrs=0|1           no extended attributes (0)
    noacl                  no POSIX ACLs
    static_nlink           directories always have a link count of 1
    ino32_t                inode numbers of at most 32 bits
    fast_ino=0|1           cheaper inode numbers in directory listings (0)
    nfs_filehandles        file handles that survive a remount

the mount:
    ro rw suid nosuid dev nodev exec noexec atime noatime diratime nodiratime sync dirsync
    allow_other            let other users in (as root: the default)
    default_permissions    the kernel checks permissions (the default)
    context="LABEL"        SELinux label of every file
    fsname=NAME subtype=NAME
    threaded=0|1 max_threads=N max_write=N max_background=N
    io_uring=auto|1|0      requests over io_uring: if the kernel offers it, by all means, never (auto)
    splice=0|1             long reads and writes past our memory, where nothing passes through (1)

environment:
    FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT   write .wh. files even where 0/0 devices can be made
    FUSE_OVERLAYFS_DEBUG_LOG=FILE         log every request to FILE
    FUSE_OVERLAYFS_NO_PASSTHROUGH         never let the kernel read and write layer files directly
)";
}

}  // namespace vellum::cli
