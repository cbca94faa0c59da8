// What is read out of images as text: names, objects, dumps. For composefs-info and `vellum image`.
// Threads: one. Errors: a line for people.
#pragma once

#include <expected>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "composefs/image_file.h"
#include "composefs/load.h"

namespace vellum::cli {

struct OpenedImage {
  std::unique_ptr<composefs::ImageFile> file;
  composefs::Tree tree;  // holds copies: does not need `file`
};

// An image of composefs; others are refused.
std::expected<std::unique_ptr<composefs::ImageFile>, std::string> open_image(const std::string& path);
std::expected<OpenedImage, std::string> read_image(const std::string& path, const composefs::LoadOptions& options = {});

// To standard output. False: it could not be written.
bool put(std::string_view text);
bool finish_output();
bool print_names(const composefs::Tree& tree);
bool print_dump(const composefs::Tree& tree);
// Adds the backing paths of a tree's files.
void collect_objects(const composefs::Tree& tree, std::set<std::string>& objects);

}  // namespace vellum::cli
