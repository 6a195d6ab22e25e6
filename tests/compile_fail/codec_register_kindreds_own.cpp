// expect: kindred's own errors cannot come out of a task as themselves
#include "kindred/task_error.hpp"

#ifdef KINDRED_COMPILES
struct MyError {
  int code;
};
const bool registered = kindred::register_exception<MyError>();
#else
const bool registered = kindred::register_exception<kindred::UsageError>();
#endif
