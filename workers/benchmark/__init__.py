"""How the service scales: measured on this machine, and simulated from measured costs for a thousand."""
