#include "kindred/log_options.hpp"

#include <bit>
#include <string>

#include "kindred/error.hpp"

namespace kindred {
namespace {

[[noreturn]] void refuse(const char* option, const std::string& value, const char* range) {
  throw UsageError{std::string{"LogOptions::"} + option + " is " + value + "; it must be " + range + "."};
}

void check_time(const char* option, std::chrono::milliseconds value) {
  if (value.count() < 0 || value > std::chrono::hours{24})
    refuse(option, std::to_string(value.count()) + " ms", "between 0 and 24 hours");
}

void check_lane(const char* option, std::size_t bytes) {
  if (bytes < 16 * 1024 || bytes > 8 * 1024 * 1024 || !std::has_single_bit(bytes)) {
    refuse(option, std::to_string(bytes), "a power of two from 16384 to 8388608");
  }
}

void check_level(const char* option, const std::optional<Level>& level) {
  if (level && *level > Level::off)
    refuse(option, std::to_string(static_cast<int>(*level)), "one of trace ... off");
}

}  // namespace

void LogOptions::validate() const {
  check_level("level", level);
  check_level("flight_recorder", flight_recorder);
  check_level("flush_on", flush_on);
  if (when_full > WhenFull::drop_oldest)
    refuse("when_full", std::to_string(static_cast<int>(when_full)), "block, drop_newest or drop_oldest");
  check_time("block_limit", block_limit);
  check_time("hold_limit", hold_limit);
  check_time("flush_limit", flush_limit);
  if (keep_bytes < 64 * 1024 || keep_bytes > std::size_t{1} << 36U)
    refuse("keep_bytes", std::to_string(keep_bytes), "from 65536 (64 KiB) to 64 GiB");
  if (flight_bytes < 64 * 1024 || flight_bytes > std::size_t{1} << 36U)
    refuse("flight_bytes", std::to_string(flight_bytes), "from 65536 (64 KiB) to 64 GiB");
  check_lane("lane_bytes", lane_bytes);
  check_lane("thread_lane_bytes", thread_lane_bytes);
  if (thread_lanes < 1 || thread_lanes > 48)
    refuse("thread_lanes", std::to_string(thread_lanes), "from 1 to 48");
  if (site_bytes < 4096 || site_bytes > 16 * 1024 * 1024 || site_bytes % 4096 != 0) {
    refuse("site_bytes", std::to_string(site_bytes), "a multiple of 4096 up to 16 MiB");
  }
  if (sink_failures == 0) refuse("sink_failures", "0", "at least 1");
}

}  // namespace kindred
