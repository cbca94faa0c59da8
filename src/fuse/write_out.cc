#include "fuse/write_out.h"

#include <chrono>
#include <future>
#include <memory>
#include <thread>

#include "base/log.h"

namespace vellum::fuse {

// syncfs(2) sends the writes but does not wait until a FUSE server has done them, so the session has to come to rest as
// well.
void write_out(const Mount& mount, const Session& session) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  auto done = std::make_shared<std::promise<void>>();
  std::future<void> written = done->get_future();
  std::thread([&mount, done] {
    ignore(mount.sync());
    done->set_value();
  }).detach();
  bool safe = written.wait_until(deadline) == std::future_status::ready;
  while (safe && !session.idle()) {
    safe = std::chrono::steady_clock::now() < deadline;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (!safe) log::warning("{}: what was written last may be lost: a layer does not answer", mount.path());
}

}  // namespace vellum::fuse
