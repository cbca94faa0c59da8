# bash completion for vellum and for its fuse-overlayfs face

_vellum_overlay_options='lowerdir= upperdir= workdir= uidmapping= gidmapping= squash_to_root squash_to_uid=
squash_to_gid= xattr_permissions= redirect_dir= metacopy= whiteouts= xino= userxattr volatile fsync= timeout=
writeback= passthrough= handles= noxattrs= noacl static_nlink ino32_t fast_ino= nfs_filehandles ro rw suid nosuid dev nodev exec noexec
atime noatime diratime nodiratime sync dirsync allow_other default_permissions context=
fsname= subtype= threaded= max_threads= max_write= max_background= io_uring= splice= debug'

# Completes the last part of a comma-separated -o list.
_vellum_option_list() {
  local list=$1 before='' part words
  part=$list
  if [[ $list == *,* ]]; then
    before=${list%,*},
    part=${list##*,}
  fi
  case $part in
    lowerdir=* | upperdir=* | workdir=*)
      local name=${part%%=*} path=${part#*=} head=''
      if [[ $path == *:* ]]; then
        head=${path%:*}:
        path=${path##*:}
      fi
      compopt -o nospace
      mapfile -t COMPREPLY < <(compgen -d -S / -P "$before$name=$head" -- "$path")
      ;;
    redirect_dir=*) words='off on copy follow nofollow' ;;
    metacopy=*) words='on off' ;;
    io_uring=*) words='auto 1 0' ;;
    splice=*) words='0 1' ;;
    whiteouts=*) words='auto device dotwh xattr deleted-tree' ;;
    xino=*) words='off auto on' ;;
    xattr_permissions=*) words='0 1 2' ;;
    fsync=* | writeback=* | handles=* | noxattrs=* | fast_ino=* | threaded=*) words='0 1' ;;
    *)
      compopt -o nospace
      mapfile -t COMPREPLY < <(compgen -P "$before" -W "$_vellum_overlay_options" -- "$part")
      ;;
  esac
  if [[ -n ${words:-} ]]; then
    mapfile -t COMPREPLY < <(compgen -P "$before${part%%=*}=" -W "$words" -- "${part#*=}")
  fi
  # Readline replaces only what is behind the last '=' or ':' when those break words.
  local breaks=$list
  if [[ $COMP_WORDBREAKS == *:* && $breaks == *[:=]* ]]; then
    local drop=${breaks%"${breaks##*[:=]}"} i
    for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"$drop"}; done
  fi
}

_vellum_overlay() {
  local current=$1 previous=$2
  # The -o list as typed, though '=' and ':' cut it into several words.
  local line=${COMP_LINE:0:COMP_POINT} typed
  typed=${line##*[[:space:]]}
  local rest=${line%"$typed"}
  rest=${rest%"${rest##*[![:space:]]}"}
  if [[ $rest == *[[:space:]]-o ]]; then
    _vellum_option_list "$typed"
  elif [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W '-f -d -s -o -h -V --debug --help --version' -- "$current")
  elif [[ $previous != -o ]]; then
    compopt -o dirnames
  fi
}

_vellum_image() {
  local current=$1 previous=$2 command=${COMP_WORDS[2]} words=''
  case $previous in
    --fuse) words='auto yes no' ;;
    --io_uring) words='auto 1 0' ;;
    --algorithm) words='sha256 sha512' ;;
    --block-size) words='4096 65536' ;;
    --min-version | --max-version) words='0 1' ;;
    --basedir | --digest-store | --upperdir | --workdir)
      compopt -o dirnames
      return
      ;;
    --digest | --filter | --threads) return ;;
  esac
  if [[ -n $words ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    return
  fi
  if [[ $COMP_CWORD -eq 2 ]]; then
    mapfile -t COMPREPLY < <(compgen -W 'create info ls dump diff verify measure mount --help' -- "$current")
  elif [[ $current == -* ]]; then
    case $command in
      create) words='--digest-store --from-dump --hard-links --use-epoch --skip-devices --skip-xattrs --user-xattrs
        --print-digest --digest-only --min-version --max-version --threads' ;;
      info) words='--json' ;;
      ls | dump) words='--filter' ;;
      diff) words='-q --quiet' ;;
      verify) words='--basedir --digest --threads -q --quiet' ;;
      measure) words='--algorithm --block-size' ;;
      mount) words='-o --basedir --digest --verity --tryverity --idmap --upperdir --workdir --ro --rw --nosuid --nodev
        --noexec --noatime --fuse --standalone --foreground --allow_other --threads --io_uring --debug' ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words --help" -- "$current")
  else
    compopt -o default
  fi
}

_vellum() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 ]]; then
    mapfile -t COMPREPLY < <(compgen -W 'overlay views run image stats --help --version' -- "$current")
  elif [[ ${COMP_WORDS[1]} == overlay ]]; then
    _vellum_overlay "$current" "$previous"
  elif [[ ${COMP_WORDS[1]} == views ]]; then
    case $previous in
      --whiteouts) mapfile -t COMPREPLY < <(compgen -W 'auto device dotwh xattr deleted-tree' -- "$current") ;;
      --env-prefix | --deny | --shared-depth | --idle | -o) ;;
      *)
        if [[ $current == -* ]]; then
          mapfile -t COMPREPLY < <(compgen -W '-o -f -d --env-prefix --strict --deny --whiteouts --shared-depth --idle
            --foreground --debug --list --json --help' -- "$current")
        else
          compopt -o dirnames
        fi
        ;;
    esac
  elif [[ ${COMP_WORDS[1]} == run ]]; then
    local i
    for ((i = 2; i < COMP_CWORD; i++)); do
      if [[ ${COMP_WORDS[i]} == -- ]]; then
        compopt -o default
        mapfile -t COMPREPLY < <(compgen -c -- "$current")
        return
      fi
    done
    if [[ $current == -* ]]; then
      mapfile -t COMPREPLY < <(compgen -W '--lower --upper --work --at --env-prefix --namespace --help --' -- "$current")
    elif [[ $previous != --env-prefix ]]; then
      compopt -o dirnames
    fi
  elif [[ ${COMP_WORDS[1]} == image ]]; then
    _vellum_image "$current" "$previous"
  elif [[ ${COMP_WORDS[1]} == stats ]]; then
    if [[ $current == -* ]]; then
      mapfile -t COMPREPLY < <(compgen -W '--json --help' -- "$current")
    else
      compopt -o dirnames
    fi
  fi
}

_fuse_overlayfs() {
  COMPREPLY=()
  _vellum_overlay "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
}

complete -F _vellum vellum
complete -F _fuse_overlayfs fuse-overlayfs
