// Telling the kernel that names of a directory have changed, from a thread of its own: the kernel takes the directory's
// lock for it, whose holder may be waiting for the very worker that has something to tell.
//
// tell() comes back when the kernel knows; where that lock is held, a moment later, and the kernel is told when it is
// free. Threads: safe.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "fuse/filesystem.h"

namespace vellum::views {

class Notices {
 public:
  void start(fuse::Notifier& kernel);
  void stop();
  // Of a directory, in the mount's numbers, whose attributes changed, and, if `name` is not empty, what has that name.
  void tell(fuse::NodeId directory, std::string_view name);

 private:
  struct Notice {
    fuse::NodeId directory;
    std::string name;
  };
  void run(fuse::Notifier& kernel);

  std::mutex mutex_;
  std::condition_variable wake_, told_one_;
  std::deque<Notice> waiting_;
  std::uint64_t asked_ = 0, told_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace vellum::views
