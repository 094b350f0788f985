module github.com/stayauth/stayauth/tokencache/redisstore

go 1.26.0

require (
	github.com/redis/go-redis/v9 v9.22.0
	github.com/stayauth/stayauth v0.0.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/godbus/dbus/v5 v5.2.2 // indirect
	github.com/gofrs/flock v0.13.1 // indirect
	go.uber.org/atomic v1.11.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/stayauth/stayauth => ../..
