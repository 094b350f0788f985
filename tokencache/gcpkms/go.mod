module github.com/stayauth/stayauth/tokencache/gcpkms

go 1.26.0

require (
	github.com/stayauth/stayauth v0.0.0
	golang.org/x/oauth2 v0.37.0
)

require (
	cloud.google.com/go/compute/metadata v0.3.0 // indirect
	github.com/gofrs/flock v0.13.1 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/stayauth/stayauth => ../..
