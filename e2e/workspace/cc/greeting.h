#ifndef CC_GREETING_H_
#define CC_GREETING_H_

#include <string>

// Greeting returns the line that greets name.
std::string Greeting(const std::string& name);

#endif  // CC_GREETING_H_
