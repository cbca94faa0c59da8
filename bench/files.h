// Files, directories and processes as the bench needs them: short, and an exception (Failure) for whatever goes wrong,
// since a bench that cannot do something has nothing to go on with. Threads: no state.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace vellum::bench {

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The result of a system call, or a Failure that names what was done to which path, and errno.
long must(long result, const char* what, const std::string& path);

void make_dirs(const std::string& path);  // with parents; fine when there
void write_file(const std::string& path, const std::string& content);
// A file of that size with bytes that differ from page to page.
void write_big_file(const std::string& path, std::uint64_t size);
std::string read_file(const std::string& path);
// Everything beneath and the path itself, without leaving the file system.
void remove_tree(const std::string& path);

// Runs a shell command with its output thrown away (shown in the Failure), and waits.
void run_shell(const std::string& command);
std::string shell_quoted(const std::string& word);

}  // namespace vellum::bench
