#include "cli/long_options.h"

#include <cstdlib>

namespace vellum::cli {

LongOptions::LongOptions(const std::string& program, const std::vector<std::string>& arguments, const char* letters,
                         const option* options)
    : letters_(letters), options_(options) {
  words_.push_back(program);
  words_.insert(words_.end(), arguments.begin(), arguments.end());
  for (std::string& word : words_) pointers_.push_back(word.data());
  pointers_.push_back(nullptr);
  ::optind = 0;  // glibc: start anew
}

std::optional<FoundOption> LongOptions::next() {
  // main() alone calls this.
  const int found = ::getopt_long(static_cast<int>(words_.size()), pointers_.data(), letters_, options_,  // NOLINT
                                  nullptr);
  if (found == -1) return std::nullopt;
  return FoundOption{.option = found, .value = ::optarg != nullptr ? ::optarg : ""};
}

std::vector<std::string> LongOptions::rest() const {
  std::vector<std::string> words;
  for (auto i = static_cast<std::size_t>(::optind); i < words_.size(); ++i) words.emplace_back(pointers_[i]);
  return words;
}

bool parse_long(const std::string& text, long* number) {
  char* end = nullptr;
  *number = std::strtol(text.c_str(), &end, 10);
  return !text.empty() && *end == '\0';
}

}  // namespace vellum::cli
