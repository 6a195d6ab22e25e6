// expect: deleted
// An executor has one log; what is passed around is a Logger.
#include "kindred/executor_logger.hpp"

#ifdef KINDRED_COMPILES
kindred::Logger share(kindred::ExecutorLogger& logger) { return logger.named("part"); }
#else
kindred::ExecutorLogger share(kindred::ExecutorLogger& logger) { return logger; }
#endif
