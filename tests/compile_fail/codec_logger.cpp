// expect: in a task, log with kindred::log_info(...)
#include <memory>

#include <spdlog/logger.h>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int work(int value);
static_assert(kindred::internal::TaskTypes<decltype(&work), int>::check());
#else
int work(std::shared_ptr<spdlog::logger> logger, int value);
static_assert(kindred::internal::TaskTypes<decltype(&work), std::shared_ptr<spdlog::logger>&, int>::check());
#endif
