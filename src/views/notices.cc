#include "views/notices.h"

#include <chrono>

namespace vellum::views {
namespace {

// Telling takes some ten microseconds unless the directory is locked.
constexpr std::chrono::milliseconds kPatience{10};

}  // namespace

void Notices::start(fuse::Notifier& kernel) {
  thread_ = std::thread([this, &kernel] { run(kernel); });
}

void Notices::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Notices::tell(fuse::NodeId directory, std::string_view name) {
  std::unique_lock lock(mutex_);
  waiting_.push_back({.directory = directory, .name = std::string(name)});
  const std::uint64_t mine = ++asked_;
  wake_.notify_one();
  told_one_.wait_for(lock, kPatience, [&] { return told_ >= mine || stopping_; });
}

void Notices::run(fuse::Notifier& kernel) {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    const Notice notice = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    if (notice.name.empty()) {
      ignore(kernel.inval_attr(notice.directory));
    } else {
      ignore(kernel.inval_entry(notice.directory, notice.name));
      ignore(kernel.inval_data(notice.directory, 0, 0));  // attributes, and the names that were listed
    }
    lock.lock();
    ++told_;
    told_one_.notify_all();
  }
}

}  // namespace vellum::views
