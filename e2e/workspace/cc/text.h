#ifndef CC_TEXT_H_
#define CC_TEXT_H_

#include <string>

// Upper returns text with its ASCII letters in upper case.
std::string Upper(std::string text);

#endif  // CC_TEXT_H_
