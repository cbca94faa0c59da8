#include "composefs/guarded_fs.h"

#include "base/log.h"

namespace vellum::composefs {

// Unlike other answers, an open file is something to be given back.
Result<fuse::OpenReply> GuardedFs::open(const fuse::Caller& c, fuse::NodeId n, int flags, bool kill_suidgid) {
  const auto mark = guard_.mark();
  auto opened = inner_.open(c, n, flags, kill_suidgid);
  if (guard_.whole_since(mark)) return opened;
  if (opened) inner_.release(n, opened->handle);
  report();
  return fail(EIO);
}

void GuardedFs::report() {
  constexpr int kMost = 64;  // a disk that fails has much to say
  if (reports_.fetch_add(1) < kMost) log::error("the image cannot be read at byte {}", guard_.last_fault());
}

}  // namespace vellum::composefs
