// expect: needs a default constructor
#include <string>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
struct Account {
  Account() = default;
  explicit Account(std::string text);
  template <class Archive>
  void serialize(Archive& archive) {
    archive(name);
  }
  std::string name;
};
int balance(const Account& account);
static_assert(kindred::internal::TaskTypes<decltype(&balance), Account&>::check());
#else
struct Account {
  explicit Account(std::string text);
  template <class Archive>
  void serialize(Archive& archive) {
    archive(name);
  }
  std::string name;
};
int balance(const Account& account);
static_assert(kindred::internal::TaskTypes<decltype(&balance), Account&>::check());
#endif
