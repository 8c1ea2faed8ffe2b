"""A folder for each room of `src/`, and for what users import; peers, attacks, networks of their own."""
