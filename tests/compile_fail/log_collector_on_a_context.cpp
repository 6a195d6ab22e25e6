// expect: CollectorKey
// A log is made by an executor on its own context; a program cannot put one on another's.
#include "kindred/internal/collector.hpp"

#ifdef KINDRED_COMPILES
int use(kindred::internal::Collector& collector) { return collector.bell_fd(); }
#else
kindred::internal::Collector make(std::shared_ptr<kindred::internal::ContextLife> context) {
  return kindred::internal::Collector{
      {}, context, kindred::LogOptions{}, kindred::internal::CollectorHooks{}};
}
#endif
