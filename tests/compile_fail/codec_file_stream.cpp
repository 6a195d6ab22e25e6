// expect: pass the file's path and open it in the task
#include <filesystem>
#include <fstream>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int count(const std::filesystem::path& file);
static_assert(kindred::internal::TaskTypes<decltype(&count), const char (&)[9]>::check());
#else
int count(std::ifstream file);
static_assert(kindred::internal::TaskTypes<decltype(&count), std::ifstream>::check());
#endif
