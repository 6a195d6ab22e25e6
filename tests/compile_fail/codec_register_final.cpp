// expect: a final class must derive from std::exception
#include "kindred/task_error.hpp"

#ifdef KINDRED_COMPILES
struct MyError {
  int code;
};
const bool registered = kindred::register_exception<MyError>();
#else
struct MyError final {
  int code;
};
const bool registered = kindred::register_exception<MyError>();
#endif
