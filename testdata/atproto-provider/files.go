// Package atprotoprovider holds the program that starts an authorization server like those of
// Bluesky's users, so that package realparts can start it from wherever a test runs.
package atprotoprovider

import "embed"

// Files is the program, without the packages that it needs.
//
//go:embed package.json .npmrc server.mjs
var Files embed.FS
