// Requests over io_uring (protocol 7.42). Each channel is a ring of its own for one thread and one of the kernel's
// queues, with memory for one request. send() keeps the reply; the next receive() hands it over and asks for another
// request in one system call. finish() hands over the last one.
//
// The kernel has a queue per possible CPU and puts a request into that of the CPU its caller runs on. A thread that
// sleeps on the same CPU gets it by a plain switch of context, without waking another CPU: that is the whole gain.
// A request may wait for others (a flush that a seek needs, see Overlay::lseek) or take long (a copy-up), so every
// queue has two threads at least, and no thread serves two queues: a request must not wait in the memory of a thread
// that is busy with another. The kernel hands a request to the entry that became free last, so a queue's second thread
// stays cold until the first one is busy.
//
// FORGET, INTERRUPT and notifications stay on /dev/fuse, so somebody has to go on serving the device itself.
// The kernel holds requests back until every queue has an entry. A request that finds none free waits for the next
// reply in its queue; an entry that is registered later does not fetch it. So every channel must have been start()ed
// before one of them works on a request. Should the kernel refuse a registration, it goes back to /dev/fuse, and so do
// the channels: each then reads the device. Threads: a channel belongs to the thread that calls start(); pending() and
// name() may be called by any. Source: facts of Linux Documentation/filesystems/fuse/fuse-io-uring.rst and
// fs/fuse/dev_uring.c.
#pragma once

#include <memory>
#include <vector>

#include "fuse/channel.h"

namespace vellum::fuse {

struct RingOptions {
  unsigned threads = 0;     // the most there may be; 0: two for each queue
  std::size_t payload = 0;  // the most bytes of data in a request or reply
};

// How many threads serve each queue; 0: better none, because `most` are too few, or because most queues belong to CPUs
// that are not there and would cost their threads all the same.
unsigned ring_threads_per_queue(unsigned possible_cpus, unsigned online_cpus, unsigned most);

// Channels for the threads that serve the connection behind `device`, before INIT is answered: what can fail, fails
// here. EOPNOTSUPP: the channel is not /dev/fuse, or no threads (see above). Otherwise as sys::FuseRing::create.
Result<std::vector<std::unique_ptr<Channel>>> make_ring_channels(const std::shared_ptr<Channel>& device,
                                                                 const RingOptions& options);

}  // namespace vellum::fuse
