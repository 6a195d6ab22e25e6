// expect: pass the file's path and open it in the task
#include <fstream>
#include <memory>
#include <string>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int count(const std::string& path);
static_assert(kindred::internal::TaskTypes<decltype(&count), const char (&)[4]>::check());
#else
int count(const std::unique_ptr<std::ifstream>& file);
static_assert(kindred::internal::TaskTypes<decltype(&count), std::unique_ptr<std::ifstream>>::check());
#endif
