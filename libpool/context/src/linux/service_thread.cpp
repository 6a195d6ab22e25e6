#include "kindred/internal/service_thread.hpp"

#include <pthread.h>
#include <signal.h>

namespace kindred::internal {

void begin_service_thread(const char* name) noexcept {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  ::pthread_setname_np(::pthread_self(), name);
}

}  // namespace kindred::internal
