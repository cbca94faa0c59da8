#include "sys/fuse_ring.h"

#include <liburing.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace vellum::sys {
namespace {

enum class Command : std::uint32_t { kRegister = 1, kCommitAndFetch = 2 };

// What a command says of itself, in the second half of a submission of 128 bytes.
struct CommandBody {
  std::uint64_t flags;
  std::uint64_t commit_id;
  std::uint16_t queue;
  std::uint8_t padding[6];
};
static_assert(sizeof(CommandBody) == 24);

constexpr std::size_t kSubmissionSize = 128;

// DEFER_TASKRUN: requests are put into our memory when we come to wait, not by interrupting us.
constexpr unsigned kFlags =
    IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED;

}  // namespace

struct FuseRing::State {
  io_uring ring{};
  bool made = false;
  std::array<iovec, 2> memory{};

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (made) ::io_uring_queue_exit(&ring);
  }

  Status prepare(Command command, const CommandBody& body) {
    io_uring_sqe* submission = ::io_uring_get_sqe(&ring);
    if (submission == nullptr) return fail(EBUSY);
    std::memset(submission, 0, kSubmissionSize);
    submission->opcode = IORING_OP_URING_CMD;
    submission->flags = IOSQE_FIXED_FILE;
    submission->fd = 0;  // the only registered file
    submission->cmd_op = static_cast<std::uint32_t>(command);
    if (command == Command::kRegister) {
      submission->addr = reinterpret_cast<std::uintptr_t>(memory.data());
      submission->len = static_cast<std::uint32_t>(memory.size());
    }
    std::memcpy(submission->cmd, &body, sizeof body);
    return {};
  }
};

FuseRing::FuseRing(std::unique_ptr<State> state) : state_(std::move(state)) {}
FuseRing::FuseRing(FuseRing&&) noexcept = default;
FuseRing& FuseRing::operator=(FuseRing&&) noexcept = default;
FuseRing::~FuseRing() = default;

Result<FuseRing> FuseRing::create(FdRef device) {
  auto state = std::make_unique<State>();
  io_uring_params parameters{};
  parameters.flags = kFlags;
  if (const int error = ::io_uring_queue_init_params(1, &state->ring, &parameters); error != 0) return fail(-error);
  state->made = true;
  const int files[] = {device.raw()};
  if (const int error = ::io_uring_register_files(&state->ring, files, 1); error != 0) return fail(-error);
  return FuseRing(std::move(state));
}

Status FuseRing::enable() {
  // liburing 2.3 (Debian 12) has a function for this but does not export it.
  if (::syscall(SYS_io_uring_register, state_->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) != 0)
    return fail_errno();
  state_->ring.flags &= ~static_cast<unsigned>(IORING_SETUP_R_DISABLED);
  return {};
}

Status FuseRing::register_entry(std::uint16_t queue, std::span<std::byte> header, std::span<std::byte> payload) {
  state_->memory = {iovec{header.data(), header.size()}, iovec{payload.data(), payload.size()}};
  return state_->prepare(Command::kRegister, {.flags = 0, .commit_id = 0, .queue = queue, .padding = {}});
}

Status FuseRing::commit_and_fetch(std::uint16_t queue, std::uint64_t commit_id) {
  return state_->prepare(Command::kCommitAndFetch, {.flags = 0, .commit_id = commit_id, .queue = queue, .padding = {}});
}

Status FuseRing::wait() {
  io_uring_cqe* completion = nullptr;
  if (const int error = ::io_uring_submit_and_wait(&state_->ring, 1); error < 0) return fail(-error);
  // A signal that comes after the submission goes unmentioned; then there is nothing here.
  if (::io_uring_peek_cqe(&state_->ring, &completion) != 0 || completion == nullptr) return fail(EINTR);
  const int result = completion->res;
  ::io_uring_cqe_seen(&state_->ring, completion);
  if (result < 0) return fail(-result);
  return {};
}

Status FuseRing::flush() {
  if (const int error = ::io_uring_submit(&state_->ring); error < 0) return fail(-error);
  return {};
}

bool FuseRing::pending() const { return ::io_uring_cq_ready(&state_->ring) > 0; }

}  // namespace vellum::sys
