#include "cc/greeting.h"

#include "cc/text.h"

std::string Greeting(const std::string& name) { return "Hello, " + Upper(name) + "!"; }
