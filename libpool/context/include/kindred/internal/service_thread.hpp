#pragma once

namespace kindred::internal {

/// Names the calling thread, and leaves every signal to the other threads: for threads of the library's own
/// that live long.
void begin_service_thread(const char* name) noexcept;

}  // namespace kindred::internal
