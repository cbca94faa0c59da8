#include "base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>

namespace vellum::log {
namespace {

std::atomic<bool> debug_on{false};

std::shared_ptr<spdlog::logger>& logger() {
  static std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("vellum", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    // Messages are read by people and matched by container tools: no timestamps, no level tags.
    made->set_pattern("%v");
    made->set_level(spdlog::level::info);
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return instance;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarning: return spdlog::level::warn;
    case Level::kError: return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

void set_debug(bool on) {
  debug_on.store(on, std::memory_order_relaxed);
  logger()->set_level(on ? spdlog::level::debug : spdlog::level::info);
}

bool debug_enabled() { return debug_on.load(std::memory_order_relaxed); }

bool set_debug_file(const char* path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    sink->set_pattern("%T.%f %t %v");
    logger()->sinks().front()->set_level(spdlog::level::info);
    logger()->sinks().push_back(std::move(sink));
    return true;
  } catch (const spdlog::spdlog_ex&) {
    return false;
  }
}

void log_to_syslog(const char* program) {
  auto sink = std::make_shared<spdlog::sinks::syslog_sink_mt>(program, LOG_PID, LOG_DAEMON, false);
  sink->set_level(spdlog::level::warn);
  logger()->sinks().push_back(std::move(sink));
}

void write(Level level, std::string_view line) { logger()->log(to_spdlog(level), line); }

}  // namespace vellum::log
