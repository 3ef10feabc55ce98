#include "cc/greeting.h"

#include <iostream>

int main() {
  const std::string got = Greeting("bazel");
  std::cout << "got " << got << std::endl;
  return got == "Hello, BAZEL!" ? 0 : 1;
}
