#!/bin/bash
# whiteouts=deleted-tree: layers as the macFUSE tool made them are read, and what we remove is written the same way.
source "$(dirname "$0")/lib.sh"
mkdir -p low/{kept,gone/deep,half,device/deep,dotwh/deep} mid/.deleted/half up/.deleted/half
echo low > low/f; echo low > low/kept/f; echo low > low/gone/deep/f; echo 1 > low/half/one; echo 2 > low/half/two; echo 3 > low/half/three
: > up/.deleted/gone; : > up/.deleted/half/one; : > mid/.deleted/half/two; : > mid/.deleted/f
echo mid > mid/m
mknod up/device c 0 0; : > up/.wh.dotwh  # whiteouts of other tools
check "mount" views --whiteouts deleted-tree --idle 300
view() { WRAPPER_LOWER=$room/mid:$room/low WRAPPER_UPPER=$room/up "$@"; }
files() { (cd "$tree" && find . -mindepth 1 | sort | tr '\n' ' '); }
check "layers of the tool are read" says "./half ./half/three ./kept ./kept/f ./m " view bash -c "$(declare -f files); tree=$tree files"
check ".deleted is no name" refused "No such file" view ls "$tree/.deleted"
check "nor can it be made" refused "not permitted" view mkdir "$tree/.deleted"
check "unlink" view rm "$tree/kept/f"
check "is an empty file in the tree" sh -c '[ -f up/.deleted/kept/f ] && [ ! -s up/.deleted/kept/f ]'
check "remove a directory with marks in it" view rm -r "$tree/half"
check "is one mark" sh -c '[ -f up/.deleted/half ]'
check "the directory again" view mkdir "$tree/half" "$tree/gone"
check "and others over whiteouts of other styles" view mkdir "$tree/device" "$tree/dotwh"
check "has nothing of the old one" says "./device ./dotwh ./gone ./half ./kept ./m " view bash -c "$(declare -f files); tree=$tree files"
check "the file again" view sh -c "echo new > $tree/kept/f"
check "has no mark" sh -c '[ ! -e up/.deleted/kept/f ]'
check "rename leaves a mark" view mv "$tree/m" "$tree/kept/m"
check "for the old name" sh -c '[ -f up/.deleted/m ] && [ -f up/kept/m ]'
check "a new file over a mark" view sh -c "mv $tree/kept/m $tree/m && grep -q mid $tree/m && [ ! -e up/.deleted/m ]"
check "no other kind of whiteout" sh -c '[ -z "$(find up -name ".wh.*" -o -type c)" ]'
end_views
check "mount again" views --whiteouts deleted-tree
check "shows the same" says "./device ./dotwh ./gone ./half ./kept ./kept/f ./m " view bash -c "$(declare -f files); tree=$tree files"
check "nothing is left in the work directory" says "" ls -A .up.vellum-work/work
