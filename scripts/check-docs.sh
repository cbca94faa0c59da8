#!/bin/bash
# Tells which options of the command line are missing in --help, the manuals or the completions; exit 1 if any is.
set -euo pipefail
cd "$(dirname "$0")/.."

# Left out on purpose: words for mount(8), what is accepted without an effect, opposites told in one breath.
untold='^(auto|noauto|defaults|nofail|user|nouser|users|_netdev|relatime|lazytime|nolazytime|async|remount|max_idle_threads|auto_cache|noauto_cache|big_writes|nonempty|index|nfs_export|verity|uuid|plugins|debug|no_splice_.*|splice_.*|clone_fd|kernel_cache|allow_root|auto_unmount|lowerdir\+)$'
missing=0
while read -r option; do
  for file in src/cli/overlay_help.cc docs/options.md man/vellum-overlay.1 completions/vellum.bash completions/_vellum completions/vellum.fish; do
    case "$option:$file" in
      sync:completions/* | dirsync:completions/* | *diratime:completions/* | fast_ino:completions/_vellum) continue ;;
      max_background:completions/*) continue ;;
    esac
    grep -qE "(^|[^a-z_])$option([^a-z_]|$)" "$file" || { echo "$file does not tell of '$option'"; missing=1; }
  done
done < <(sed -nE 's/^ +\{"([^"]+)", Argument::.*/\1/p' src/cli/overlay_options.cc | grep -vE "$untold")

# told_of OPTION FILE[+FILE]...: one of those joined by + is enough. Manuals write hyphens as \-.
told_of() {
  local option=$1 files text
  shift
  for files; do
    IFS=+ read -ra files <<< "$files"
    text=$(sed 's/\\-/-/g' "${files[@]}")
    grep -qE -- "(^|[^a-z_-])(--|-l )?$option([^a-z_-]|$)" <<< "$text" ||
      { echo "${files[*]} does not tell of '$option'"; missing=1; }
  done
}
completions=(completions/vellum.bash completions/_vellum completions/vellum.fish)
while read -r option; do
  told_of "$option" man/vellum-image.1+man/mkcomposefs.1 "${completions[@]}"
done < <(sed -nE '/image_main\(/,$p; /add_create\(/,/^}/p' src/cli/image_main.cc |
  grep -oE '"(-q,)?--[a-z-]+"' | sed -E 's/"(-q,)?--(.*)"/\2/' | sort -u)
untold='^(suid|dev|exec|atime|relatime|strictatime|diratime|nodiratime)$'
while read -r option; do
  told_of "$option" man/mount.composefs.8 "${completions[@]}"
done < <(sed -nE 's/^ +Option\{"([^"]+)".*/\1/p' src/cli/image_mount_options.cc | grep -vE "$untold")
exit "$missing"
