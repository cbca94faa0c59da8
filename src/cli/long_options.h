// getopt_long(3) as an object: command lines of the C tools mean here exactly what they mean there, with options
// anywhere, abbreviated, and values behind a space or a "=". CLI11 has another grammar.
// Threads: one; getopt has one state for the process.
#pragma once

#include <getopt.h>

#include <optional>
#include <string>
#include <vector>

namespace vellum::cli {

struct FoundOption {
  int option = 0;  // '?' for an unknown one, ':' for one without its value
  std::string value;
};

class LongOptions {
 public:
  // `options` ends with a null entry and outlives the object.
  LongOptions(const std::string& program, const std::vector<std::string>& arguments, const char* letters,
              const option* options);
  std::optional<FoundOption> next();
  // After next() gave nothing: what is not an option.
  std::vector<std::string> rest() const;

 private:
  std::vector<std::string> words_;
  std::vector<char*> pointers_;
  const char* letters_;
  const option* options_;
};

// A whole decimal number as strtol(3) reads it.
bool parse_long(const std::string& text, long* number);

}  // namespace vellum::cli
