#include <fmt/format.h>
#include <getopt.h>

#include <cstdio>
#include <string_view>

#include "cli/image_file_out.h"
#include "cli/image_listing.h"
#include "cli/long_options.h"
#include "cli/mkcomposefs_main.h"
#include "composefs/build.h"
#include "composefs/verity.h"
#include "sys/file.h"

namespace vellum::cli {
namespace {

enum Option { kBasedir = 256, kFilter };
constexpr option kOptions[] = {{"basedir", required_argument, nullptr, kBasedir},
                               {"filter", required_argument, nullptr, kFilter},
                               {nullptr, 0, nullptr, 0}};

int usage(const std::string& program, std::string_view problem) {
  if (!problem.empty()) fmt::print(stderr, "{}\n", problem);
  fmt::print(stderr,
             "usage: {} [--basedir=PATH] [--filter=NAME]... ls|objects|dump|missing-objects|measure-file IMAGES...\n",
             program);
  return 1;
}

int complain(const std::string& program, std::string_view problem) {
  fmt::print(stderr, "{}: {}\n", program, problem);
  return 1;
}

int measure(const std::string& program, std::span<const std::string> paths) {
  for (const std::string& path : paths) {
    const auto file = sys::open(path.c_str(), O_RDONLY);
    if (!file) return complain(program, fmt::format("Failed to open '{}': {}", path, file.error().message()));
    const auto digest = composefs::measure_digest(*file, {}, composefs::default_threads());
    if (!digest) return complain(program, fmt::format("failed to measure '{}': {}", path, digest.error().message()));
    put(digest->hex() + "\n");
  }
  return finish_output() ? 0 : 1;
}

bool is_missing(sys::FdRef basedir, std::string_view object) {
  if (!basedir) return true;
  while (object.starts_with('/')) object.remove_prefix(1);
  return !sys::open_beneath(basedir, object, O_PATH).has_value();
}

struct Question {
  std::string command;
  std::string basedir;
  composefs::LoadOptions load;
  std::vector<std::string> images;
};

int answer(const std::string& program, const Question& question) {
  sys::UniqueFd basedir;
  if (!question.basedir.empty()) {
    auto opened = sys::open(question.basedir.c_str(), O_PATH | O_DIRECTORY);
    if (!opened)
      return complain(program, fmt::format("Can't open basedir `{}`: {}", question.basedir, opened.error().message()));
    basedir = std::move(*opened);
  }
  std::set<std::string> objects;
  for (const std::string& path : question.images) {
    const auto image = read_image(path, question.load);
    if (!image) {
      ignore(finish_output());
      return complain(program, image.error());
    }
    bool written = true;
    if (question.command == "ls")
      written = print_names(image->tree);
    else if (question.command == "dump")
      written = print_dump(image->tree);
    else
      collect_objects(image->tree, objects);
    if (!written) return complain(program, "cannot write: " + Errno::last().message());
  }
  for (const std::string& object : objects)
    if (question.command == "objects" || is_missing(basedir, object)) put(object + "\n");
  return finish_output() ? 0 : complain(program, "cannot write: " + Errno::last().message());
}

}  // namespace

int composefs_info_main(const std::string& program, const std::vector<std::string>& arguments) {
  Question question;
  LongOptions options(program, arguments, "", kOptions);
  while (const auto found = options.next()) {
    if (found->option == kBasedir) {
      question.basedir = found->value;
    } else if (found->option == kFilter) {
      if (found->value.find('/') != std::string::npos)
        return complain(program, "Filter must be a single name: " + found->value);
      question.load.only.push_back(found->value);
    } else {
      return usage(program, "");
    }
  }
  std::vector<std::string> words = options.rest();
  if (words.empty()) return usage(program, "No command specified");
  question.command = words[0];
  words.erase(words.begin());
  if (question.command == "measure-file")
    return words.empty() ? usage(program, "No files specified") : measure(program, words);
  if (question.command != "ls" && question.command != "dump" && question.command != "objects" &&
      question.command != "missing-objects")
    return complain(program, fmt::format("Unknown command '{}'", question.command));
  if (words.empty()) return usage(program, "No image path specified");
  question.images = std::move(words);
  return answer(program, question);
}

int composefs_dump_main(const std::string& program, const std::vector<std::string>& arguments) {
  if (arguments.size() < 2) {
    fmt::print(stderr, "No {} path specified\nusage: {} SRC DEST\n", arguments.empty() ? "source" : "destination",
               program);
    return 1;
  }
  const auto source = read_image(arguments[0]);
  if (!source) return complain(program, source.error());
  const std::uint32_t version = source->file->image().composefs()->composefs_version;
  const auto image = composefs::build_image(source->tree, {.least = version, .most = version});
  if (!image) return complain(program, "cannot write file: " + image.error().message());
  auto out = ImageFileOut::open(arguments[1]);
  if (!out) return complain(program, out.error());
  const auto written = out->write(*image);
  return written ? 0 : complain(program, written.error());
}

}  // namespace vellum::cli
