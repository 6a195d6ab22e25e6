// expect: a thrown number or string is reported as a TaskError
#include <stdexcept>

#include "kindred/task_error.hpp"

#ifdef KINDRED_COMPILES
struct MyError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
const bool registered = kindred::register_exception<MyError>();
#else
const bool registered = kindred::register_exception<int>();
#endif
