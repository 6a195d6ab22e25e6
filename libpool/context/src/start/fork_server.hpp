#pragma once

#include <cstdint>

// The words between a parent and its fork server (or template) on their control socket.
namespace kindred::internal {

struct ServerRequest {
  enum class What : std::uint32_t { start = 1, quit = 2 };
  What what = What::start;
  std::uint32_t spare = 0;
  std::uint64_t ticket = 0;  // start: descriptors are the worker's socket and its end of the lifeline
};

struct ServerReport {
  enum class What : std::uint32_t {
    started = 1,  // ticket, pid; its pidfd comes along; or error_number
    ended = 2,    // pid, wait_status
    ready = 3,    // preloaded; a template: it could be forked as it is
    failed = 4    // the text behind says why; or error_number, of pidfd_open
  };
  What what = What::started;
  std::uint32_t pid = 0;
  std::uint64_t ticket = 0;
  std::int32_t error_number = 0;
  std::int32_t wait_status = 0;
};

}  // namespace kindred::internal
