from ssmspec.cli import main

main()
