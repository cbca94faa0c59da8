// The interface to composefs images, for programs: link vellum_composefs.
//
//   composefs::Tree            build one with add() and finish(), or get one from
//     composefs::scan()          a directory, its content to a composefs::Store
//     composefs::parse_dump()    text
//     composefs::load_tree()     an image (opened with erofs::Image or composefs::ImageFile)
//   composefs::build_image()   the bytes of the image, the same for the same tree
//   composefs::walk()          every name of a tree
//   composefs::digest_of_bytes(), measure_digest()  fs-verity digests
//   composefs::check_objects(), diff()
// Errors are values: Result<T> with an errno, or std::expected with a line for people. Nothing throws but
// std::bad_alloc.
#pragma once

#include "composefs/build.h"
#include "composefs/check.h"
#include "composefs/diff.h"
#include "composefs/dump.h"
#include "composefs/image_file.h"
#include "composefs/load.h"
#include "composefs/scan.h"
#include "composefs/store.h"
#include "composefs/tree.h"
#include "composefs/verity.h"
#include "erofs/image.h"
