// expect: could not convert || no known conversion
// A context's id cannot be made up from a number by accident: a handle would then seem to belong where it
// does not.
#include "kindred/internal/context_id.hpp"

void serve(kindred::internal::ContextId id);

int main() {
#ifdef KINDRED_COMPILES
  serve(kindred::internal::ContextId::make(kindred::StartMethod::spawn));
#else
  serve(1234);
#endif
}
