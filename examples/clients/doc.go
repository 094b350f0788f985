// Package clients shows API clients of others over a stayauth Transport: a test of each, and the
// one line of glue that some of them need. README.md is the table of them.
package clients
