// expect: private
// An executor's logger is the executor's to make: a program cannot make one for a collector that it found.
#include "kindred/executor_logger.hpp"

#ifdef KINDRED_COMPILES
void use(kindred::ExecutorLogger& logger) { logger.info("text"); }
#else
void use(kindred::internal::Collector& collector) {
  kindred::ExecutorLogger logger{
      kindred::internal::CollectorKey{kindred::internal::Passkey<kindred::ProcessPoolExecutor>{}}, collector};
}
#endif
