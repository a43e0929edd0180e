#!/bin/sh
# The name that build jobs know the builder by.
exec /usr/bin/flynn-component builder "$@"
