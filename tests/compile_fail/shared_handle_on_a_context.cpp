// expect: no matching function for call to || no matching constructor for initialization
// A handle is made by its executor. There is no way to make one on a context, so none on the wrong one.
#include "kindred/internal/context_id.hpp"
#include "kindred/mutex.hpp"

int main() {
#ifdef KINDRED_COMPILES
  const kindred::Mutex mutex;
#else
  const kindred::Mutex mutex{kindred::internal::ContextId::make(kindred::StartMethod::spawn)};
#endif
  return mutex ? 1 : 0;
}
