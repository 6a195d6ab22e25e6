// expect: private
// Not even with a pointer to the insides of one.
#include "kindred/semaphore.hpp"

kindred::Semaphore take(std::shared_ptr<kindred::internal::SharedObject> object) {
#ifdef KINDRED_COMPILES
  (void)object;
  return {};
#else
  return kindred::Semaphore{object};
#endif
}

int main() { return take({}) ? 1 : 0; }
