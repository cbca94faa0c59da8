#include "fuse/daemon.h"

#include <csignal>
#include <utility>

#include "base/log.h"
#include "sys/process.h"
#include "sys/signals.h"

namespace vellum::fuse {
namespace {

// What the child sends: 'R', or 'F', one byte of exit status, the message.
constexpr char kReady = 'R';
constexpr char kFailed = 'F';
constexpr std::size_t kLongestWord = 65536;

}  // namespace

Daemon::Daemon(Daemon&& other) noexcept
    : child_(std::exchange(other.child_, 0)),
      word_(std::move(other.word_)),
      background_(other.background_),
      said_(other.said_.load()) {}

Daemon Daemon::foreground() { return {}; }

Result<Daemon> Daemon::start() {
  auto [reader, writer] = TRY(sys::make_pipe());
  const pid_t pid = TRY(sys::fork_child());
  Daemon daemon;
  daemon.background_ = true;
  if (pid > 0) {
    daemon.child_ = pid;
    daemon.word_ = std::move(reader);
  } else {
    sys::new_session();
    daemon.word_ = std::move(writer);
  }
  return daemon;
}

int Daemon::wait() {
  if (auto signals = sys::SignalQueue::create({SIGINT, SIGTERM, SIGHUP})) {
    constexpr int kEndedBySignal = 128;
    auto signal = signals->next_unless(word_);
    while (signal && *signal != 0 && sys::is_ignored(*signal)) signal = signals->next_unless(word_);
    if (signal && *signal != 0) {
      ignore(sys::send_signal(child_, SIGTERM));  // it unmounts when it comes to it
      return kEndedBySignal + *signal;
    }
  }
  const std::string word = sys::read_to_end(word_, kLongestWord);
  if (!word.empty() && word[0] == kReady) return 0;
  const auto ended = sys::wait_for(child_);
  if (word.size() >= 2 && word[0] == kFailed) {
    if (word.size() > 2) log::error("{}", std::string_view(word).substr(2));
    return static_cast<unsigned char>(word[1]);
  }
  // A child that printed its own reason and left with a status needs no words from us.
  if (ended && ended->exited && ended->code != 0) return ended->code;
  if (ended && !ended->exited)
    log::error("the background process was killed by signal {} before it was ready", ended->code);
  else
    log::error("the background process ended before it was ready");
  return 1;
}

void Daemon::ready() {
  if (said_.exchange(true) || !background_) return;
  // Best effort: a parent that was killed meanwhile, a file system without /dev/null.
  ignore(sys::change_to_root_directory());
  ignore(sys::standard_streams_to_null());
  ignore(sys::write_all(word_, {&kReady, 1}));
  word_.reset();
}

int Daemon::fail(std::string_view message, int status) {
  if (said_.exchange(true) || !background_) {
    log::error("{}", message);
    return status;
  }
  std::string word = {kFailed, static_cast<char>(status)};
  word += message;
  ignore(sys::write_all(word_, word));
  word_.reset();
  return status;
}

}  // namespace vellum::fuse
