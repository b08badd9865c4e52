from moascope.cli import main

main()
