#!/bin/bash
# Is to be run with --test_timeout=2.
echo "the slow test began"
sleep 3600
