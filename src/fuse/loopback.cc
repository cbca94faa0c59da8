#include "fuse/loopback.h"

#include "sys/packet_socket.h"

namespace vellum::fuse {
namespace {

constexpr std::size_t kMessage = 160 * 1024;

}  // namespace

Loopback::Loopback(Filesystem& filesystem, Options options) : session_(filesystem, std::move(options.session)) {
  auto ends = sys::packet_socket_pair(kMessage);
  if (!ends) {
    started_ = fail(ends.error());
    return;
  }
  thread_ = std::thread([this, threads = options.threads, socket = std::move(ends->second)]() mutable {
    ended_ = session_.run(std::make_unique<SocketChannel>(std::move(socket)), threads);
  });
  client_ = std::make_unique<Client>(std::move(ends->first));
  if (options.initialize) started_ = client_->initialize(options.hello);
}

Loopback::~Loopback() { ignore(finish()); }

Status Loopback::finish() {
  if (client_) client_->disconnect();
  if (thread_.joinable()) thread_.join();
  return ended_;
}

}  // namespace vellum::fuse
