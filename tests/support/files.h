// Short words for what tests do with files. Those that return text give "<ENOENT>" and the like for an error, so
// that one EXPECT_EQ shows what happened.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vellum::test {

std::string errno_name(int error);  // "ENOENT"; "0" for success

// For a call that returns -1 and sets errno: prints the errno's name.
#define EXPECT_OK(call) EXPECT_EQ(::vellum::test::errno_name((call) < 0 ? errno : 0), "0") << #call
#define ASSERT_OK(call) ASSERT_EQ(::vellum::test::errno_name((call) < 0 ? errno : 0), "0") << #call
#define EXPECT_ERRNO(call, error) \
  EXPECT_EQ(::vellum::test::errno_name((call) < 0 ? errno : 0), ::vellum::test::errno_name(error)) << #call

// An open file, closed at the end of its scope. Failing to open is a test failure.
class Fd {
 public:
  Fd(const std::string& path, int flags, mode_t mode = 0644);
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&&) = delete;
  ~Fd() { close(); }
  int close();
  operator int() const { return fd_; }  // NOLINT: it stands for the number in libc calls

 private:
  int fd_;
};

std::string read_file(const std::string& path);
std::string read_fd(int fd);                                        // from offset 0, with pread
int write_file(const std::string& path, std::string_view content);  // O_TRUNC, not O_CREAT; 0 or -1
int create_file(const std::string& path, std::string_view content, mode_t mode = 0644);  // O_EXCL; 0 or -1
int append_file(const std::string& path, std::string_view content);
int open_errno(const std::string& path, int flags, mode_t mode = 0644);  // opens and closes; errno or 0

struct stat lstat_of(const std::string& path);  // a test failure and zeros when there is none
struct stat fstat_of(int fd);
ino_t ino_of(const std::string& path);
mode_t mode_of(const std::string& path);  // permission bits with suid, sgid, sticky
std::string octal(mode_t mode);
bool exists(const std::string& path);  // by lstat
std::string link_target(const std::string& path);

std::vector<std::string> names_in(const std::string& dir);  // sorted, without . and ..
using Names = std::vector<std::string>;

std::string get_xattr(const std::string& path, const std::string& name);  // of the link itself
int set_xattr(const std::string& path, const std::string& name, std::string_view value, int flags = 0);
Names list_xattrs(const std::string& path);  // sorted

// A character device 0/0.
bool is_whiteout_device(const std::string& path);
// Whether `name` in the directory `dir` of a layer hides that name of the layers below, in any style.
bool is_whiteout(const std::string& dir, const std::string& name);
// Whether a layer's directory hides what lies below it, in any style.
bool is_opaque(const std::string& dir);

struct SetTimes {
  std::int64_t atime, mtime;
};
int set_times(const std::string& path, SetTimes seconds);

// Everything that can be seen of a tree without following links, one line per entry, sorted by name.
struct SnapshotOptions {
  bool times = false;
  bool owners = true;
};
std::vector<std::string> snapshot(const std::string& root, SnapshotOptions options = {});

// Runs a shell command; its exit status, and what it wrote to both outputs.
struct Ran {
  int status = 0;
  std::string output;
};
Ran run(const std::string& command);

// POSIX ACLs as text in setfacl's short form ("u::rw-,u:7:r--,g::r--,m::rw-,o::r--"), through libacl.
int set_acl(const std::string& path, const std::string& text, bool is_default = false);
std::string get_acl(const std::string& path, bool is_default = false);

void remove_tree(const std::string& path);

}  // namespace vellum::test
