#!/usr/bin/perl
# A page by what every Debian system has.
use strict;
use warnings;
use IO::Socket::INET;

my $port   = $ENV{PORT} || 8080;
my $server = IO::Socket::INET->new(LocalPort => $port, Listen => 64, ReuseAddr => 1)
  or die "cannot listen on $port: $!\n";
$SIG{TERM} = sub { exit 0 };
$SIG{PIPE} = 'IGNORE';
$| = 1;
print "listening on $port\n";

while (my $client = $server->accept) {
  # The request ends with an empty line; what it asks for does not matter.
  while (defined(my $line = <$client>)) { last if $line =~ /^\r?\n$/ }
  my $text = "Hello from Flynn on port $port\n";
  my $length = length $text;
  print $client "HTTP/1.1 200 OK\r\nContent-Length: $length\r\nConnection: close\r\n\r\n$text";
  close $client;
}
