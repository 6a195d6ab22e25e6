// expect: no matching
// A logger takes a name, never a context: whose log it writes to is decided by the process that it is used
// in.
#include "kindred/internal/context_id.hpp"
#include "kindred/logger.hpp"

#ifdef KINDRED_COMPILES
kindred::Logger make(kindred::internal::ContextId) { return kindred::Logger{"name"}; }
#else
kindred::Logger make(kindred::internal::ContextId context) { return kindred::Logger{context}; }
#endif
