#include "sys/fault_guard.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <utility>

namespace vellum::sys {

// Why zeros never pass for the file's bytes: the handler counts in `zeroed`, then in `faults`, and only then puts zeros
// there; `zeroed` goes down only when the file is back. So for a reader that sees zeros, either `faults` has moved
// since its mark, or `zeroed` was not 0 when it took it. And restore() takes away only what was counted before it
// looked, while no handler was between its counting and its putting.
struct GuardedRange {
  std::atomic<std::uintptr_t> begin{0};  // 0: free
  std::atomic<std::size_t> size{0};
  std::atomic<std::uint64_t> handling{0}, zeroed{0}, faults{0}, last{0};
  bool holds(std::uintptr_t at) const {
    const std::uintptr_t from = begin.load();
    return from != 0 && at >= from && at - from < size.load();
  }
};

namespace {

constinit std::array<GuardedRange, FaultGuard::kMost> ranges;
Mutex claiming;
struct sigaction before;       // written once, before there is a handler
std::uintptr_t page_size = 0;  // likewise

bool put_zeros(GuardedRange& range, std::uintptr_t at) {
  ++range.handling;
  ++range.zeroed;
  ++range.faults;
  range.last = at - range.begin;
  void* const page = reinterpret_cast<void*>(at & ~(page_size - 1));
  const bool put = ::mmap(page, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
  --range.handling;
  return put;
}

void on_bus_error(int signal, siginfo_t* info, void*) {
  const int error = errno;
  bool put = false;
  const bool fault = info->si_code > 0;  // not sent by somebody
  const auto at = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (GuardedRange& range : ranges) {
    if (fault && !put && range.holds(at)) put = put_zeros(range, at);
  }
  if (!put) {
    // Nothing of ours: as if we had never been here.
    ::sigaction(signal, &before, nullptr);
    if (!fault) ::raise(signal);  // a fault comes again by itself
  }
  errno = error;
}

Status install() {
  static std::once_flag once;
  static int error = 0;
  std::call_once(once, [] {
    page_size = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    if (::sigaction(SIGBUS, nullptr, &before) != 0 || ::sigaction(SIGBUS, &action, nullptr) != 0) error = errno;
  });
  if (error != 0) return fail(error);
  return {};
}

}  // namespace

Result<std::unique_ptr<FaultGuard>> FaultGuard::create(FileMapping& mapping, FdRef file) {
  UniqueFd own(::fcntl(file.raw(), F_DUPFD_CLOEXEC, 0));
  if (!own) return fail_errno();
  TRY(install());
  const MutexLock lock(claiming);
  for (GuardedRange& range : ranges) {
    if (range.begin != 0) continue;
    range.zeroed = 0;
    range.size = mapping.bytes().size();
    range.begin = reinterpret_cast<std::uintptr_t>(mapping.bytes().data());
    return std::unique_ptr<FaultGuard>(new FaultGuard(mapping, std::move(own), range));
  }
  return fail(ENOSPC);
}

FaultGuard::~FaultGuard() {
  const MutexLock lock(claiming);
  range_.begin = 0;
}

FaultGuard::Mark FaultGuard::mark() {
  if (range_.zeroed != 0) restore();
  const std::uint64_t faults = range_.faults;
  return {.faults = faults, .whole = range_.zeroed == 0};
}

bool FaultGuard::whole_since(const Mark& mark) {
  if (mark.whole && range_.faults == mark.faults && range_.zeroed == 0) return true;
  restore();
  return false;
}

std::uint64_t FaultGuard::last_fault() const { return range_.last; }

void FaultGuard::restore() {
  const MutexLock lock(mutex_);
  if (detached_) return;
  const std::uint64_t zeroed = range_.zeroed;
  if (zeroed == 0 || range_.handling != 0) return;  // else the next reader does it
  const auto bytes = mapping_.bytes();
  void* const at = const_cast<std::byte*>(bytes.data());
  if (::mmap(at, bytes.size(), PROT_READ, MAP_SHARED | MAP_FIXED, file_.raw(), 0) != MAP_FAILED)
    range_.zeroed -= zeroed;
}

Status FaultGuard::detach() {
  const MutexLock lock(mutex_);
  const std::uint64_t zeroed = range_.zeroed;
  const bool late = range_.handling != 0;  // its zeros may come into the copy: then they stay, and so does the count
  TRY(mapping_.detach(file_));
  detached_ = true;
  if (!late) range_.zeroed -= zeroed;
  return {};
}

}  // namespace vellum::sys
