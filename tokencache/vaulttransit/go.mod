module github.com/stayauth/stayauth/tokencache/vaulttransit

go 1.26.0

require (
	github.com/stayauth/stayauth v0.0.0
	golang.org/x/oauth2 v0.37.0
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/godbus/dbus/v5 v5.2.2 // indirect
	github.com/gofrs/flock v0.13.1 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/stayauth/stayauth => ../..
