// Package oidcprovider holds the program that starts a certified authorization
// server, so that package realparts can start it from wherever a test runs.
package oidcprovider

import "embed"

// Files is the program, without the packages that it needs.
//
//go:embed package.json .npmrc *.mjs
var Files embed.FS
